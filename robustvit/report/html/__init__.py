"""The HTML document of a page: its template, style, script and content security policy."""
