"""The SSN head and the actionness head: structured pooling, layers and losses."""
