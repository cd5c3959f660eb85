"""
A scheduler whose workers have imported what tasks import.

The LocalExecutor's workers and their tasks are forks of the scheduler. Modules that it has imported need not be
imported again by every task, which took most of a task's 0.7 s of CPU. Airflow's own DAG processor does the same
(``[dag_processor] parsing_pre_import_modules``).
"""

MODULES = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.amazon.aws.operators.s3",
    "airflow.providers.common.compat.connection",
    "airflow.providers.standard.operators.hitl",
    "airflow.providers.standard.operators.python",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_provider_imagegen.decorators.imagegen",
    "airflow_provider_imagegen.hooks.imagegen",
    "airflow_provider_imagegen.operators.batch",
    "airflow_provider_imagegen.engine.batch.run",
    "airflow_provider_imagegen.operators.imagegen",
    "airflow_provider_imagegen.operators.landing",
    "airflow_provider_imagegen.engine.land_run",
    "airflow_provider_imagegen.ledger.documents",
    "airflow_provider_imagegen.engine.receipts",
    "airflow_provider_imagegen.engine.run",
    "airflow_provider_imagegen.sensors.imagegen",
    "airflow_provider_imagegen.triggers.imagegen",
    "anyio._backends._asyncio",
    "boto3.s3.inject",
)


def preloading_program() -> list[str]:
    """Return what to tell Python to run, before Airflow's command."""
    # Not a script of this folder, whose modules would then be found before Airflow's.
    imports = "\n".join(f"import {name}" for name in MODULES)
    return ["-c", f"{imports}\nfrom airflow.__main__ import main\nmain()"]
