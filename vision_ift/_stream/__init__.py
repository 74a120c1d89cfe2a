"""Rows of an export or a plan, in one global order that resumes exactly."""
