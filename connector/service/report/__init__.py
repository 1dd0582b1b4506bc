"""The page with pictures: what is read for it, what each picture shows, and how it becomes one HTML file."""
