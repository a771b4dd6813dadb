"""The application for a WSGI server: `gunicorn wsgi:app`."""

from dialer import create_app

app = create_app()
