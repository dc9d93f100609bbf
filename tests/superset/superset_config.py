"""Superset's configuration for the test: all shared state lies outside the replicas.

Read by every Superset process (replicas, Celery worker, `superset db upgrade`).
The values that differ from run to run come from the environment that `stack.sh`
writes.  There is nothing in here that would tie a session to a replica.
"""
import os
from datetime import timedelta

from flask_caching.backends.rediscache import RedisCache
from redis import Redis

PUBLIC_URL = os.environ["STACK_PUBLIC_URL"]
PUBLIC_WS_URL = PUBLIC_URL.replace("http", "ws", 1)
REDIS_PORT = int(os.environ["STACK_REDIS_PORT"])
DB_EVENTS, DB_CACHE, DB_SESSION, DB_CELERY, DB_RESULTS = range(5)


def _redis(db: int) -> Redis:
    return Redis("127.0.0.1", REDIS_PORT, db, socket_timeout=3.0, socket_connect_timeout=1.0)


def _cache(db: int, prefix: str, seconds: int) -> dict:
    return {
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_HOST": "127.0.0.1",
        "CACHE_REDIS_PORT": REDIS_PORT,
        "CACHE_REDIS_DB": db,
        "CACHE_KEY_PREFIX": prefix,
        "CACHE_DEFAULT_TIMEOUT": seconds,
    }


# --- identity and metadata ------------------------------------------------------
SECRET_KEY = os.environ["STACK_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["STACK_METADATA_URI"]
SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True, "pool_size": 5, "max_overflow": 15}

# --- sessions in Redis, so that any replica serves any request ------------------
SESSION_SERVER_SIDE = True
SESSION_TYPE = "redis"
SESSION_REDIS = _redis(DB_SESSION)
SESSION_USE_SIGNER = True
SESSION_PERMANENT = True
PERMANENT_SESSION_LIFETIME = timedelta(hours=8)
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"

# --- caches ---------------------------------------------------------------------
CACHE_CONFIG = _cache(DB_CACHE, "meta_", 300)
DATA_CACHE_CONFIG = _cache(DB_CACHE, "data_", 300)
FILTER_STATE_CACHE_CONFIG = _cache(DB_CACHE, "filter_", 86400)
EXPLORE_FORM_DATA_CACHE_CONFIG = _cache(DB_CACHE, "form_", 86400)
RESULTS_BACKEND = RedisCache(host=_redis(DB_RESULTS), key_prefix="results_")

# --- behind a proxy -------------------------------------------------------------
ENABLE_PROXY_FIX = True
PROXY_FIX_CONFIG = {"x_for": 1, "x_proto": 1, "x_host": 1, "x_port": 1, "x_prefix": 1}
WEBDRIVER_BASEURL = PUBLIC_URL + "/"
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'", PUBLIC_WS_URL],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": True,
}

# --- asynchronous queries -------------------------------------------------------
FEATURE_FLAGS = {"GLOBAL_ASYNC_QUERIES": True}
GLOBAL_ASYNC_QUERIES_TRANSPORT = os.environ["STACK_ASYNC_TRANSPORT"]
GLOBAL_ASYNC_QUERIES_WEBSOCKET_URL = PUBLIC_WS_URL + "/ws"
GLOBAL_ASYNC_QUERIES_JWT_SECRET = os.environ["STACK_JWT_SECRET"]
GLOBAL_ASYNC_QUERIES_JWT_COOKIE_SECURE = True
GLOBAL_ASYNC_QUERIES_JWT_COOKIE_SAMESITE = "Lax"
GLOBAL_ASYNC_QUERIES_CACHE_BACKEND = _cache(DB_EVENTS, "", 300)


class CeleryConfig:
    """Broker and results in Redis; the tasks that the test reaches."""

    broker_url = f"redis://127.0.0.1:{REDIS_PORT}/{DB_CELERY}"
    result_backend = broker_url
    broker_connection_retry_on_startup = True
    imports = ("superset.sql_lab", "superset.tasks.async_queries")
    worker_prefetch_multiplier = 1


CELERY_CONFIG = CeleryConfig

# --- limits ---------------------------------------------------------------------
RATELIMIT_ENABLED = False
ROW_LIMIT = 10_000
SQL_MAX_ROW = 100_000
# Charts stream their CSV from here on; the default, 100,000 rows, would take long.
CSV_STREAMING_ROW_THRESHOLD = 15_000
# The values of Superset's own image: the web timeout equals Gunicorn's.
SUPERSET_WEBSERVER_TIMEOUT = 60


def FLASK_APP_MUTATOR(app) -> None:  # noqa: N802 - Superset's name
    """Name the replica in each response, so that the test can count the shares."""
    replica = os.environ.get("STACK_REPLICA", "none")

    @app.after_request
    def _name_replica(response):
        response.headers["X-Superset-Replica"] = replica
        return response
