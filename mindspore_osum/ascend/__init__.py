"""What an Ascend device asks of a program: rules of operators, versions of its software, a self-test."""
