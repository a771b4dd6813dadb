"""The plugins that come with Dialer: one folder each, installed as `dialer_plugins`."""
