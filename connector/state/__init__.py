"""The database: tables, engine, and every SQL statement; one method is one transaction."""
