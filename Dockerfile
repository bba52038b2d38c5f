# syntax=docker/dockerfile:1
# One image for every role: worker, beat, flower, exporter, producer. Slim: no torch, no compiler, the model inside.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/ocrfleet
WORKDIR /src
# Dependencies first: a change of our own code must not download 300 MB of wheels again.
COPY requirements requirements
RUN /opt/ocrfleet/bin/pip install --require-hashes --requirement requirements/build.txt --requirement requirements/fleet.txt
COPY pyproject.toml README.md LICENSE ./
COPY detector detector
COPY worker worker
COPY producer producer
RUN /opt/ocrfleet/bin/pip install --no-deps --no-build-isolation . \
    && /opt/ocrfleet/bin/pip uninstall --yes setuptools wheel \
    && /opt/ocrfleet/bin/python -m compileall -q /opt/ocrfleet/lib \
    # The image must hold a model that loads, and must not hold torch: better to fail here than on fifty machines.
    && /opt/ocrfleet/bin/python -c "from detector.models import DEFAULT_MODEL, load_card; load_card(DEFAULT_MODEL)" \
    && ! /opt/ocrfleet/bin/python -c "import torch" 2>/dev/null

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="ocrfleet" \
      org.opencontainers.image.description="OCR text detection over huge piles of images" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 ocrfleet \
    && useradd --uid 10001 --gid ocrfleet --home-dir /var/lib/ocrfleet --create-home --shell /usr/sbin/nologin ocrfleet \
    # A named volume takes the owner of the folder it is mounted on.
    && install -d -o ocrfleet -g ocrfleet -m 0700 /spool /state /out
# East Asian text of PDFs that do not hold its font is drawn with this one (5 MB). pdfium asks for few, and for this by name.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-wqy-microhei \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/ocrfleet /opt/ocrfleet
# Two malloc arenas and one OpenMP thread: what keeps a worker below 256 MB (`ocr-worker start` sets them too).
ENV PATH=/opt/ocrfleet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    OMP_NUM_THREADS=1 \
    PYTHONSAFEPATH=1 \
    OCRFLEET_SPOOL_DIR=/spool
USER 10001:10001
WORKDIR /var/lib/ocrfleet
# SIGTERM: the current image is finished, then the worker leaves.
STOPSIGNAL SIGTERM
CMD ["ocr-worker", "start"]
