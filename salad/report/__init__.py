"""What test.py leaves to look at: report.html, and figures for papers. `write.write_report` is the way in."""
