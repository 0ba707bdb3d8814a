"""``python -m ssn_feat`` is the console command ``ssn-feat``."""

from ssn_feat.commands import main

if __name__ == "__main__":
    main()
