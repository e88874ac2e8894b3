"""What every route rests on: settings, who may ask, what a request may hold."""
