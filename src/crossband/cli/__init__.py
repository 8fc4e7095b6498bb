"""The command `crossband`: one file for each command, which calls the packages below."""
