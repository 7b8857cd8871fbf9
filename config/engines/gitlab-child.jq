# From the matrix of a plan to a child pipeline of GitLab's. What upstreams called their things is only
# ever a value: the orders go to a job as a variable that nothing is expanded in.
def image: "registry.example.com/publish:0.1.0";

{ stages: ["build", "sync"],
  # What was ordered, for the last job.
  plan: {
    stage: "build",
    image: image,
    needs: [{ pipeline: "$PLAN_PIPELINE", job: "plan" }],
    script: ["test -s staged/plan.json"],
    artifacts: { paths: ["staged"], expire_in: "1 day" }
  } }
+ ([ .include[] | {
      key: "build \(.index): \(.name)",
      value: {
        stage: "build",
        image: image,
        variables: { PUBLISH_JOB: { value: .job, expand: false } },
        script: ["publish build --staged staged"],
        artifacts: { paths: ["staged"], when: "always", expire_in: "1 day" }
      }
    } ] | from_entries)
+ { sync: {
      stage: "sync",
      image: image,
      # What was built is published, whatever else failed. All that the stage before left comes along:
      # to name the jobs would bound their number.
      when: "always",
      environment: { name: "publish" },
      script: ["publish sync --staged staged"]
    } }
