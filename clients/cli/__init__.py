"""The command `dompbus`: a thin shell over the SDK. `main.py` holds the app; each other module is one command."""
