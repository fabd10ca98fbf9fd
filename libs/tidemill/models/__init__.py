"""What a model artifact is: encoding, scoring, metrics, the reference its drift is measured against."""
