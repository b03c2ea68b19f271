"""Which criterion of importance ranks units by what their removal really costs?"""
