"""Reads command lines: is an answer exactly one command, and would running it do harm?"""
