"""`python -m services.ingest`."""

from services.ingest.app import main
from tidemill.settings import Settings

if __name__ == "__main__":
    main(Settings.load())
