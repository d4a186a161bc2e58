"""Pages of the documentation that people wrote. What code can say of itself is not here: `cli/reference.py` makes it.

Every block of commands and files on these pages is executed by the tests, in the order of the page.
"""
