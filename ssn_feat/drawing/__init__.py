"""Tables, timelines, colours and HTML helpers."""
