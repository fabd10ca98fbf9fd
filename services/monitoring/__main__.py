"""`python -m services.monitoring`."""

from services.monitoring.app import main

main()
