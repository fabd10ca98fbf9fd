"""`python -m services.feature_store`."""

from services.feature_store.app import main

main()
