"""`python -m services.training`."""

from services.training.app import main

main()
