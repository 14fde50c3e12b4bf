"""What is in your own photos: from the command line (`demo.py`) and in a browser (`web.py`)."""
