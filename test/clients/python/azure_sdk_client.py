"""Azure's SDK for Python, the management client of session pools, against the control plane."""

import os
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from azure.mgmt.appcontainers import models

import pool

# A pool's management endpoint begins with the control plane's, and names where the pool belongs.
_url = urlsplit(pool.ENDPOINT)
_, _, SUBSCRIPTION, _, GROUP, _, _ = _url.path.rstrip("/").split("/")
NAME = "azuresdk"


def new_client():
    credential = SimpleNamespace(
        get_token=lambda *scopes, **_: SimpleNamespace(token=pool.TOKEN, expires_on=int(time.time()) + 3600)
    )
    client = ContainerAppsAPIClient(credential, SUBSCRIPTION, base_url=f"{_url.scheme}://{_url.netloc}", polling_interval=1)
    return client.container_apps_session_pools


def description(most=4, ready=0, container=models.ContainerType.PYTHON_LTS):
    return models.SessionPool(
        location="local",
        tags={"team": "ml"},
        properties=models.SessionPoolProperties(
            container_type=container,
            pool_management_type=models.PoolManagementType.DYNAMIC,
            scale_configuration=models.ScaleConfiguration(max_concurrent_sessions=most, ready_session_instances=ready),
            dynamic_pool_configuration=models.DynamicPoolConfiguration(
                lifecycle_configuration=models.LifecycleConfiguration(
                    lifecycle_type=models.LifecycleType.TIMED, cooldown_period_in_seconds=600
                )
            ),
            session_network_configuration=models.SessionNetworkConfiguration(
                status=models.SessionNetworkStatus.EGRESS_DISABLED
            ),
        ),
    )


def names(pools):
    return {p.name for p in pools}


def main():
    pools = new_client()
    made = pools.begin_create_or_update(GROUP, NAME, description()).result()
    pool.equal("create", (made.name, made.properties.provisioning_state), (NAME, "Succeeded"))
    pool.equal("its endpoint", made.properties.pool_management_endpoint, os.path.dirname(pool.ENDPOINT) + "/" + NAME)
    got = pools.get(GROUP, NAME)
    pool.equal("get", (got.type, got.tags, got.properties.container_type), ("Microsoft.App/sessionPools", {"team": "ml"}, "PythonLTS"))
    lifecycle = got.properties.dynamic_pool_configuration.lifecycle_configuration
    pool.equal("its lifecycle", (lifecycle.lifecycle_type, lifecycle.cooldown_period_in_seconds), ("Timed", 600))
    pool.equal("list of the group", NAME in names(pools.list_by_resource_group(GROUP)), True)
    pool.equal("list of the subscription", NAME in names(pools.list_by_subscription()), True)

    change = models.SessionPoolUpdatableProperties(
        properties=models.SessionPoolUpdatablePropertiesProperties(
            scale_configuration=models.ScaleConfiguration(max_concurrent_sessions=5, ready_session_instances=1)
        )
    )
    changed = pools.begin_update(GROUP, NAME, change).result()
    scale = changed.properties.scale_configuration
    pool.equal("update", (scale.max_concurrent_sessions, scale.ready_session_instances), (5, 1))
    pool.equal("what it leaves alone", pools.get(GROUP, NAME).properties.dynamic_pool_configuration.lifecycle_configuration.cooldown_period_in_seconds, 600)

    bad = pool.raises("a range", HttpResponseError, lambda: pools.begin_create_or_update(GROUP, NAME, description(most=2, ready=3)))
    pool.equal("its code", (bad.status_code, bad.error.code), (400, "SessionPoolInvalidReadySessionInstances"))
    custom = description(container=models.ContainerType.CUSTOM_CONTAINER)
    bad = pool.raises("another type", HttpResponseError, lambda: pools.begin_create_or_update(GROUP, NAME + "2", custom))
    pool.equal("its status", bad.status_code, 400)

    pools.begin_delete(GROUP, NAME).result()
    absent = pool.raises("get after delete", ResourceNotFoundError, lambda: pools.get(GROUP, NAME))
    pool.equal("its code", absent.error.code, pool.ABSENT_CODE)
    pool.equal("list after delete", NAME in names(pools.list_by_resource_group(GROUP)), False)
    pools.begin_delete(GROUP, NAME).result()
    print("ok   delete twice")


main()
