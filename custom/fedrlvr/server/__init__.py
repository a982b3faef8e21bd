"""What the server does in a run. It knows no transport: another room carries its requests to the sites."""
