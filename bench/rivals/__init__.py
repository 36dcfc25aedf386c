"""Pombo and its rivals on the same work in the same run.

Each rival is set up as its own documentation recommends, sends the same request to the same server, and keeps the same
delivery log in the same PostgreSQL. What is measured, and how, stands in docs/benchmarks.md.
"""
