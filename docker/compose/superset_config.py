"""Superset as one of many equal replicas behind Sluicegate: everything that a request may need lies outside the process.

Survives: the loss of any replica, worker, Redis or Sentinel, and the promotion of the PostgreSQL replica. Each setting
says what it is for; what is not here has Superset's default.
"""

import os
from datetime import timedelta

from cachelib.redis import RedisCache
from celery.schedules import crontab
from redis.sentinel import Sentinel

PUBLIC_URL = os.environ["PUBLIC_URL"].rstrip("/")
REDIS_PASSWORD = os.environ["REDIS_PASSWORD"]
SENTINELS = [("sentinel-1", 26379), ("sentinel-2", 26379), ("sentinel-3", 26379)]
MASTER = "superset"
DB_EVENTS, DB_CACHE, DB_SESSIONS, DB_CELERY, DB_RESULTS = range(5)

# --- equal on every replica ---------------------------------------------------------------------------------------------

# Signs session cookies. Unequal keys are the usual cause of login loops with several replicas, and the wrong reason to ask
# for sticky sessions.
SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
# Signs the token that superset-websocket asks for: its JWT_SECRET.
GLOBAL_ASYNC_QUERIES_JWT_SECRET = os.environ["SUPERSET_JWT_SECRET"]

# --- PostgreSQL: survives the promotion of the replica --------------------------------------------------------------------

# Both are named; libpq connects to the one that takes writes.
SQLALCHEMY_DATABASE_URI = (
    f"postgresql+psycopg2://superset:{os.environ['POSTGRES_PASSWORD']}@/superset"
    "?host=postgres-1:5432&host=postgres-2:5432&target_session_attrs=read-write&connect_timeout=3"
)
# A connection that a failover has broken is replaced before a request meets it.
SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True, "pool_recycle": 300, "pool_size": 5, "max_overflow": 15}

# --- Redis: survives the loss of the master -------------------------------------------------------------------------------

sentinel = Sentinel(SENTINELS, socket_timeout=1.0, socket_connect_timeout=1.0)


def master(db):
    """A client that asks the Sentinels for the master whenever it connects."""
    return sentinel.master_for(MASTER, db=db, password=REDIS_PASSWORD, socket_timeout=3.0, socket_connect_timeout=1.0)


def cache(db, prefix, seconds):
    """A cache on the master."""
    return {
        "CACHE_TYPE": "RedisSentinelCache",
        "CACHE_REDIS_SENTINELS": SENTINELS,
        "CACHE_REDIS_SENTINEL_MASTER": MASTER,
        "CACHE_REDIS_SENTINEL_PASSWORD": None,
        "CACHE_REDIS_PASSWORD": REDIS_PASSWORD,
        "CACHE_REDIS_DB": db,
        "CACHE_KEY_PREFIX": prefix,
        "CACHE_DEFAULT_TIMEOUT": seconds,
    }


CACHE_CONFIG = cache(DB_CACHE, "superset_meta_", 300)
DATA_CACHE_CONFIG = cache(DB_CACHE, "superset_data_", 86_400)
# Filters and Explore's forms are state, not cache: a user sees them vanish.
FILTER_STATE_CACHE_CONFIG = cache(DB_CACHE, "superset_filter_", 90 * 86_400)
EXPLORE_FORM_DATA_CACHE_CONFIG = cache(DB_CACHE, "superset_explore_", 7 * 86_400)
# Results of SQL Lab's asynchronous queries: written by a worker, read by any replica.
RESULTS_BACKEND = RedisCache(host=master(DB_RESULTS), key_prefix="superset_results_", default_timeout=86_400)

# --- sessions in Redis: any replica serves any request, and logging out is final ----------------------------------------------

SESSION_SERVER_SIDE = True
SESSION_TYPE = "redis"
SESSION_REDIS = master(DB_SESSIONS)
SESSION_USE_SIGNER = True
SESSION_PERMANENT = True
# Flask's own default is 31 days: with anonymous visits that fills Redis.
PERMANENT_SESSION_LIFETIME = timedelta(hours=12)
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"

# --- behind the proxy -----------------------------------------------------------------------------------------------------------

# One proxy, which sends each X-Forwarded field once and never what a client sent.
ENABLE_PROXY_FIX = True
PROXY_FIX_CONFIG = {"x_for": 1, "x_proto": 1, "x_host": 1, "x_port": 1, "x_prefix": 0}
# The proxy redirects to HTTPS; Superset's own redirect would be a second opinion, and ends in a loop when they differ.
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        # The WebSocket, which some browsers do not count as 'self'.
        "connect-src": ["'self'", PUBLIC_URL.replace("http", "ws", 1)],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": True,
}
# Below the proxy's routes.timeouts.first_byte (300 s), so that Superset's own message is what the user sees.
SUPERSET_WEBSERVER_TIMEOUT = 60
# Superset's limits count per process unless told where; the proxy's are the ones for the whole fleet.
RATELIMIT_ENABLED = False
# Reports look at Superset from inside, past the proxy.
WEBDRIVER_BASEURL = "http://superset-1:8088/"
WEBDRIVER_BASEURL_USER_FRIENDLY = PUBLIC_URL + "/"

# --- asynchronous queries: no request waits for a database ------------------------------------------------------------------------

FEATURE_FLAGS = {"GLOBAL_ASYNC_QUERIES": True, "ALERT_REPORTS": True}
GLOBAL_ASYNC_QUERIES_TRANSPORT = "ws"
GLOBAL_ASYNC_QUERIES_WEBSOCKET_URL = PUBLIC_URL.replace("http", "ws", 1) + "/ws"
GLOBAL_ASYNC_QUERIES_JWT_COOKIE_NAME = "async-token"
GLOBAL_ASYNC_QUERIES_JWT_COOKIE_SECURE = True
GLOBAL_ASYNC_QUERIES_JWT_COOKIE_SAMESITE = "Lax"
GLOBAL_ASYNC_QUERIES_CACHE_BACKEND = cache(DB_EVENTS, "", 300)


class CeleryConfig:
    """Workers and Beat: survive the loss of any of them, and of the Redis master."""

    broker_url = ";".join(f"sentinel://:{REDIS_PASSWORD}@{host}:{port}/{DB_CELERY}" for host, port in SENTINELS)
    broker_transport_options = {
        "master_name": MASTER,
        # Longer than the longest task, or it is delivered twice.
        "visibility_timeout": 3600,
        "socket_timeout": 3.0,
        "socket_keepalive": True,
    }
    result_backend = broker_url
    result_backend_transport_options = broker_transport_options
    broker_connection_retry_on_startup = True
    imports = ("superset.sql_lab", "superset.tasks.scheduler", "superset.tasks.cache", "superset.tasks.async_queries")
    # A task whose worker dies is delivered again, and no worker hoards tasks that another could run.
    task_acks_late = True
    task_reject_on_worker_lost = True
    worker_prefetch_multiplier = 1
    # Two schedulers, one lock: the second takes over when the first has not renewed it for a minute.
    redbeat_redis_url = "redis-sentinel://"
    redbeat_redis_options = {
        "sentinels": SENTINELS,
        "service_name": MASTER,
        "password": REDIS_PASSWORD,
        "db": DB_CELERY,
        "socket_timeout": 3.0,
    }
    redbeat_lock_timeout = 60
    # Below the lock's time-out, or the lock expires between two renewals.
    beat_max_loop_interval = 10
    beat_schedule = {
        "reports.scheduler": {"task": "reports.scheduler", "schedule": crontab(minute="*", hour="*")},
        "reports.prune_log": {"task": "reports.prune_log", "schedule": crontab(minute="0", hour="0")},
    }


CELERY_CONFIG = CeleryConfig
