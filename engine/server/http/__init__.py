"""What every route relies on: settings, access control, and the declaration of routes."""
