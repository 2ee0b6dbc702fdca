"""Which client a request is from: addresses, proxies, and their keys."""
