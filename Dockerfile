# Two images of one build: `panguard`, the command, and `broker`, the Mosquitto that the tests run against.
#     docker compose build

FROM python:3.14.8-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/panguard && pip install --no-cache-dir setuptools==80.9.0
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/panguard install --no-cache-dir --only-binary :all: --constraint constraints.txt \
        "$(echo /wheels/*.whl)[postgresql]"

FROM python:3.14.8-slim-bookworm AS panguard
RUN pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin panguard \
    && install -d -m 0700 -o panguard -g panguard /var/lib/panguard/manager /var/lib/panguard/broker \
        /var/lib/panguard/enrollment /var/lib/panguard/guard \
        /var/lib/panguard/database /var/lib/panguard/database-password
COPY --from=build /opt/panguard /opt/panguard
ENV PATH=/opt/panguard/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/panguard
ENTRYPOINT ["panguard"]
CMD ["--help"]

FROM debian:12.12-slim AS broker
RUN apt-get update \
    && apt-get install --yes --no-install-recommends 'mosquitto=2.0.11-*' 'mosquitto-clients=2.0.11-*' \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/lib/*-linux-gnu/mosquitto_dynamic_security.so /usr/lib/mosquitto_dynamic_security.so \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/panguard/broker
USER 10001:10001
WORKDIR /var/lib/panguard/broker
ENTRYPOINT ["/usr/sbin/mosquitto"]
CMD ["-c", "broker.conf"]
