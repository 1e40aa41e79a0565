"""A web page for one person: record or drop a recording, ask, see the answer. `osum demo` starts it."""
