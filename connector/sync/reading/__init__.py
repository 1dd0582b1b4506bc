"""What is planned being asked: requests out, pages in, each written as a whole."""
