# Builds with BuildKit (docker build, podman build):
#
#   docker build --tag registry.example.com/beamer-segment:0.1.0 .
#
# The base is pinned by its tag. Tags change when Debian fixes something; a digest does not. To pin the digest,
# take the one that `docker buildx imagetools inspect python:3.13.9-slim-bookworm` shows and write it
# after the tag, FROM python:3.13.9-slim-bookworm@sha256:…, and let a tool update it.

FROM python:3.13.9-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY connector connector
COPY migrations migrations
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13.9-slim-bookworm
# The versions that the tests used; the wheel gets no layer of its own.
RUN --mount=type=bind,source=constraints.txt,target=/build/constraints.txt \
    --mount=type=bind,from=build,source=/wheels,target=/build/wheels \
    pip install --no-cache-dir --constraint /build/constraints.txt \
        "$(ls /build/wheels/*.whl)[postgres]"
# A folder for a SQLite file on a volume, the only one that the user may write to.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin connector \
    && install --directory --owner=connector --group=connector --mode=0700 /var/lib/beamer-segment
ENV PYTHONUNBUFFERED=1
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/beamer-segment
# Requests the health of `schedule`; any other command counts as healthy while it runs.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import http.client, os, sys; port = os.environ.get('CONNECTOR_BIND', ':8080').rpartition(':')[2]; serves = b'schedule' in open('/proc/1/cmdline', 'rb').read().split(b'\\0') and port.isdecimal(); there = http.client.HTTPConnection('127.0.0.1', int(port), timeout=4) if serves else sys.exit(0); there.request('GET', '/healthz'); sys.exit(there.getresponse().status != 200)"]
ENTRYPOINT ["beamer-segment"]
CMD ["--help"]
