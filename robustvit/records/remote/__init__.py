"""Stores in object storage: s3://, gs://, az://. A folder of the user's cache mirrors each; what is written goes to both."""
