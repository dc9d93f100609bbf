# Superset's own image, with what the stack needs beside it: the driver of PostgreSQL, the scheduler that can stand twice.
ARG SUPERSET_VERSION=6.1.0
FROM apache/superset:${SUPERSET_VERSION}
USER root
RUN uv pip install --no-cache psycopg2-binary==2.9.10 celery-redbeat==2.3.2
USER superset
