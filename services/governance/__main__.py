"""`python -m services.governance`."""

from services.governance.app import main

main()
