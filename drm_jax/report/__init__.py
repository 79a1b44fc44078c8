"""What people look at: an HTML report, tasks and denoising in the terminal. Reads files alone."""
