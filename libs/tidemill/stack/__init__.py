"""The local stack: real Kafka, Apicurio Registry and PostgreSQL, and the services, without Docker or a Java installation."""
