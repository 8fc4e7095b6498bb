"""What people look at: pictures and tables. The only room that imports matplotlib."""
