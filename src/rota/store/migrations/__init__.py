"""The steps that lead from an empty file to today's schema: ``0001_….sql``, ``0002_….sql``, run in order, once each.

A step that was released is never changed. ``schema.sql`` beside this folder is the sum of all steps, for people
to read; a test holds both equal.
"""
