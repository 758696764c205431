# A judge behind HTTP, for a CPU, or with --build-arg ACCELERATOR=cuda for NVIDIA's GPUs. docs/container.md says how to run it.
ARG PYTHON=3.11-slim-bookworm
ARG ACCELERATOR=cpu

FROM python:${PYTHON} AS torch-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv /opt/tiebreak \
  && /opt/tiebreak/bin/pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" torch

FROM python:${PYTHON} AS torch-cuda
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv /opt/tiebreak \
  && /opt/tiebreak/bin/pip install --no-cache-dir -c constraints.txt torch

# hadolint ignore=DL3006
FROM torch-${ACCELERATOR} AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/tiebreak/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:${PYTHON} AS runtime-cpu

FROM python:${PYTHON} AS runtime-cuda
# Triton compiles a launcher for each kernel
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends gcc libc6-dev \
  && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM runtime-${ACCELERATOR}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache tiebreak \
  && install -d -o tiebreak -g tiebreak /cache
COPY --from=build /opt/tiebreak /opt/tiebreak
# all that is written goes to /cache, a volume, and /tmp: the rest may be read-only
ENV PATH=/opt/tiebreak/bin:$PATH \
  HOME=/cache \
  HF_HOME=/cache/huggingface \
  TRITON_CACHE_DIR=/cache/triton \
  TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /cache
VOLUME /cache
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["tiebreak"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
