"""What is learned on features: structured pooling, the SSN head, the actionness head, and their losses."""
