"""Write the report of test.py: report.html, and figures for papers. The entry point is `write.write_report`."""
