"""The pull API: other services read the log over HTTP, each with its own offset."""
