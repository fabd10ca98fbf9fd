"""`python -m services.serving`."""

from services.serving.app import main

main()
