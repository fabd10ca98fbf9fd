#!/bin/sh
# At the server's first start: a role and a database of its own for each of DATABASES, with the password in PASSWORD_<NAME>.
set -eu
for name in $DATABASES; do
    password=$(printenv "PASSWORD_$(printf %s "$name" | tr '[:lower:]' '[:upper:]')")
    psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --set=name="$name" --set=password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
