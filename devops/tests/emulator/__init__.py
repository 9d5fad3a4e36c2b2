"""AWS in a process of its own: moto's server, with what it lacks for the deploy kit.

    python devops/tests/emulator --port N [--calls FILE] [--control FILE]

prints one line of JSON when it is ready: `url`, and `zone`, the id of a hosted zone for hello.example.com.

FILE of calls: one JSON object a line, in the order of the answers: service and operation (ecs, RunTask), action (what
IAM asks for; "" where nothing is needed), region, principal (access key id), internal (made by the emulator itself, as
CloudFormation makes calls), arguments (null when they could not be read), status (of HTTP), at.

FILE of control: one JSON object, read whenever something happens; what it may hold:

    account               the account that the caller is in (default 123456789012; the one at the start owns all)
    fail_resource         logical id of a resource that cannot be created or updated
    rollout               COMPLETED; or FAILED, IN_PROGRESS: tasks of a new definition do not come up, the old ones stay
    running_definition    new; or old: ECS took the old definition back, and the service is steady
    migration_exit_code   of a task that is run with the command migrate (0)
    task_exit_code        of any other task that is run (0)
    task_seconds          how long such a task runs (0)
    connection_status     of a connection to a Git host: PENDING, or AVAILABLE after the handshake
    restore_status        of restore jobs of AWS Backup: COMPLETED, FAILED, RUNNING

The files:

    rows/               one row for each resource type: the API call that it stands for
    kinds.py            makes, changes and removes one resource by its row
    schemas.py          what cfn-lint knows of resource types
    evaluation.py       functions and conditions of templates
    checks.py           what is wrong with templates, parameters and rules
    changes.py          what an update would change
    stacks.py           making it so, rolling back
    cloudformation.py, change_sets.py   the API of all that
    ecs.py, services.py where moto's services are unlike AWS
    recording.py        reads requests and writes them down
    control.py          the control file
    server.py           the HTTP server
"""
