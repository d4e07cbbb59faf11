//! Stack traces in the shape of the recorded ones.

const RUNTIME: &str = "com.alipay.sofa.koupleless.arklet.core.common.exception.ArkletRuntimeException";
const VALIDATION: &str = "com.alipay.sofa.koupleless.arklet.core.common.exception.CommandValidationException";
const ARKLET: &str = "com.alipay.sofa.koupleless.arklet.core";

const THREAD: &str = "\tat com.alipay.sofa.koupleless.arklet.tunnel.mqtt.paho.MqttMessageHandler.handleCommand(MqttMessageHandler.java:200)
\tat com.alipay.sofa.koupleless.arklet.tunnel.mqtt.paho.PahoMqttClient$PahoMqttCallback.lambda$messageArrived$0(PahoMqttClient.java:172)
\tat java.base/java.util.concurrent.Executors$RunnableAdapter.call(Executors.java:539)
\tat java.base/java.util.concurrent.FutureTask.run(FutureTask.java:264)
\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1136)
\tat java.base/java.util.concurrent.ThreadPoolExecutor$Worker.run(ThreadPoolExecutor.java:635)
\tat java.base/java.lang.Thread.run(Thread.java:840)
";

const INSTALLING: &str = "\tat java.base/jdk.internal.reflect.NativeMethodAccessorImpl.invoke0(Native Method)
\tat java.base/jdk.internal.reflect.NativeMethodAccessorImpl.invoke(NativeMethodAccessorImpl.java:77)
\tat java.base/jdk.internal.reflect.DelegatingMethodAccessorImpl.invoke(DelegatingMethodAccessorImpl.java:43)
\tat java.base/java.lang.reflect.Method.invoke(Method.java:569)
\tat com.alipay.sofa.ark.bootstrap.MainMethodRunner.run(MainMethodRunner.java:55)
\tat com.alipay.sofa.ark.container.model.BizModel.doStart(BizModel.java:367)
\tat com.alipay.sofa.ark.container.model.BizModel.start(BizModel.java:337)
\tat com.alipay.sofa.ark.api.ArkClient.doInstallBiz(ArkClient.java:207)
\tat com.alipay.sofa.ark.api.ArkClient.installBiz(ArkClient.java:185)
\tat com.alipay.sofa.ark.api.ArkClient.doInstallOperation(ArkClient.java:421)
\tat com.alipay.sofa.ark.api.ArkClient.installOperation(ArkClient.java:382)
";

const SPRING: &str = "\tat org.springframework.beans.factory.support.ConstructorResolver.instantiate(ConstructorResolver.java:648)
\tat org.springframework.beans.factory.support.ConstructorResolver.instantiateUsingFactoryMethod(ConstructorResolver.java:485)
\tat org.springframework.beans.factory.support.AbstractAutowireCapableBeanFactory.instantiateUsingFactoryMethod(AbstractAutowireCapableBeanFactory.java:1337)
\tat org.springframework.beans.factory.support.AbstractAutowireCapableBeanFactory.createBeanInstance(AbstractAutowireCapableBeanFactory.java:1167)
\tat org.springframework.beans.factory.support.AbstractAutowireCapableBeanFactory.doCreateBean(AbstractAutowireCapableBeanFactory.java:562)
\tat org.springframework.beans.factory.support.AbstractAutowireCapableBeanFactory.createBean(AbstractAutowireCapableBeanFactory.java:522)
\tat org.springframework.beans.factory.support.AbstractBeanFactory.lambda$doGetBean$0(AbstractBeanFactory.java:337)
\tat org.springframework.beans.factory.support.DefaultSingletonBeanRegistry.getSingleton(DefaultSingletonBeanRegistry.java:234)
\tat org.springframework.beans.factory.support.AbstractBeanFactory.doGetBean(AbstractBeanFactory.java:335)
\tat org.springframework.beans.factory.support.AbstractBeanFactory.getBean(AbstractBeanFactory.java:200)
\tat org.springframework.beans.factory.support.DefaultListableBeanFactory.preInstantiateSingletons(DefaultListableBeanFactory.java:975)
\tat org.springframework.context.support.AbstractApplicationContext.finishBeanFactoryInitialization(AbstractApplicationContext.java:962)
\tat org.springframework.context.support.AbstractApplicationContext.refresh(AbstractApplicationContext.java:624)
\tat org.springframework.boot.SpringApplication.refresh(SpringApplication.java:754)
\tat org.springframework.boot.SpringApplication.refreshContext(SpringApplication.java:456)
\tat org.springframework.boot.SpringApplication.run(SpringApplication.java:335)
\tat org.springframework.boot.SpringApplication.run(SpringApplication.java:1363)
\tat org.springframework.boot.SpringApplication.run(SpringApplication.java:1352)
\tat e2e.broken.BrokenApplication.main(BrokenApplication.java:11)
\t... 24 more
";

/// What `response.message` says about a module that fails to start: nothing of use.
pub(super) const START_FAILED: &str = "java.lang.reflect.InvocationTargetException";

/// A command that threw the given exception (`java.io.FileNotFoundException: …`).
pub(super) fn thrown(exception: &str) -> String {
    format!(
        "{RUNTIME}: {exception}\n\
         \tat {ARKLET}.command.builtin.handler.InstallBizHandler.handle(InstallBizHandler.java:77)\n\
         \tat {ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:180)\n\
         {THREAD}Caused by: {exception}\n\
         \tat com.alipay.sofa.ark.api.ArkClient.installOperation(ArkClient.java:382)\n\
         \tat {ARKLET}.ops.UnifiedOperationServiceImpl.install(UnifiedOperationServiceImpl.java:73)\n\
         \tat {ARKLET}.command.builtin.handler.InstallBizHandler.handle(InstallBizHandler.java:68)\n\
         \t... 10 more\n"
    )
}

/// A command that was refused because of its fields.
pub(super) fn invalid(message: &str) -> String {
    format!(
        "{VALIDATION}: {message}\n\
         \tat {ARKLET}.command.meta.AbstractCommandHandler.notBlank(AbstractCommandHandler.java:134)\n\
         \tat {ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:118)\n{THREAD}"
    )
}

/// An exception of the JVM itself while a command was taken apart.
pub(super) fn bare(exception: &str) -> String {
    format!("{exception}\n\tat {ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:118)\n{THREAD}")
}

/// The record of a broken module: the exception from its main method, causes and all.
pub(super) fn broken_record(cause: &str, replaced: bool) -> String {
    let strategy = if replaced {
        "UninstallThenInstallStrategy.install(UninstallThenInstallStrategy.java:63)"
    } else {
        "InstallOnlyStrategy.install(InstallOnlyStrategy.java:52)"
    };
    // Tomcat's word for a second context of one path.
    let exception = if cause.starts_with("Child name [") {
        "java.lang.IllegalArgumentException"
    } else {
        "java.lang.IllegalStateException"
    };
    format!(
        "{START_FAILED}\n{INSTALLING}\
         \tat {ARKLET}.ops.strategy.{strategy}\n\
         \tat {ARKLET}.ops.UnifiedOperationServiceImpl.install(UnifiedOperationServiceImpl.java:73)\n\
         \tat {ARKLET}.command.builtin.handler.InstallBizHandler.handle(InstallBizHandler.java:68)\n\
         \t... 10 more\n\
         Caused by: org.springframework.beans.factory.BeanCreationException: Error creating bean with name 'boom' \
         defined in e2e.broken.BrokenApplication: Failed to instantiate [java.lang.Object]: Factory method 'boom' \
         threw exception with message: {cause}\n{SPRING}\
         Caused by: org.springframework.beans.BeanInstantiationException: Failed to instantiate [java.lang.Object]: \
         Factory method 'boom' threw exception with message: {cause}\n\
         \tat org.springframework.beans.factory.support.SimpleInstantiationStrategy.instantiate(SimpleInstantiationStrategy.java:177)\n\
         \tat org.springframework.beans.factory.support.ConstructorResolver.instantiate(ConstructorResolver.java:644)\n\
         \t... 42 more\n\
         Caused by: {exception}: {cause}\n\
         \tat e2e.broken.BrokenApplication.boom(BrokenApplication.java:10)\n\
         \tat e2e.broken.BrokenApplication$$SpringCGLIB$$0.boom(<generated>)\n\
         \tat java.base/java.lang.reflect.Method.invoke(Method.java:569)\n\
         \tat org.springframework.beans.factory.support.SimpleInstantiationStrategy.instantiate(SimpleInstantiationStrategy.java:140)\n\
         \t... 43 more\n"
    )
}

/// The answer about a broken module: the same trace below the command's own.
pub(super) fn broken_answer(cause: &str, replaced: bool) -> String {
    format!(
        "{RUNTIME}: {START_FAILED}\n\
         \tat {ARKLET}.command.builtin.handler.InstallBizHandler.handle(InstallBizHandler.java:77)\n\
         \tat {ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:180)\n\
         {THREAD}Caused by: {}",
        broken_record(cause, replaced)
    )
}
