"""The command `crossband`: one file a command, each a thin call into the packages below."""
