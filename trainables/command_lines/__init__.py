"""Reading command lines: is an answer a command and nothing else, and would it do harm?"""
